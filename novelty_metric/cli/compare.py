"""``novelty-metric compare``."""

from __future__ import annotations

import sys

from novelty_metric.cli.parsing import Parser
from novelty_metric.cli.settings import user_path
from novelty_metric.report import NoveltyReport

HELP = """\
usage: novelty-metric compare RUN_A RUN_B

Compare two reports, the folders that `novelty-metric score ... out=DIR` wrote:
the change of each share from A to B with its 95 % interval and a test, and the
crystals whose verdict changed, with why. Crystals that both runs scored, known
by id and formula, are paired. Runs against other references, or with another
protocol, potential or hull, do not measure the same thing: a warning says so.

  --all         list every crystal that changed, not only the first 20
  -h, --help    print this help
"""


def run(words: list[str]) -> int:
    """Run the verb on the words after it.

    Raises
    ------
    InputError
        If the call or a report can't be used.
    """
    parser = Parser(prog="novelty-metric compare", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("runs", nargs="*")
    given = parser.parse_intermixed_args(words)
    if given.help:
        print(HELP, end="")
        return 0
    if len(given.runs) != 2:
        parser.error(f"two runs are compared, {len(given.runs)} were given")
    before, after = (NoveltyReport.load(user_path(name)) for name in given.runs)

    from novelty_metric.comparison import compare
    from novelty_metric.console import print_comparison, stdout_console

    print_comparison(compare(before, after), stdout_console(sys.stdout), all_changes=given.all)
    return 0
