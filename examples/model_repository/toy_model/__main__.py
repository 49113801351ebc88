"""``python -m toy_model N FILE``: write crystals as extended XYZ."""

import sys

from ase.io import write
from pymatgen.io.ase import AseAtomsAdaptor

from toy_model import sample

n, path = sys.argv[1:]
write(path, [AseAtomsAdaptor.get_atoms(crystal) for crystal in sample(int(n))], format="extxyz")
