"""`unigrad sample`: what a model says to a problem."""

from __future__ import annotations

from unigrad.cli import plugins
from unigrad.cli.evaluate import add_protocol, read_protocol
from unigrad.cli.parser import Parser, given, template_lines
from unigrad.evaluate.own_run import config_file


def run(arguments: list[str]) -> int:
    plugins.load(arguments, config_file)
    options = vars(parser().read(arguments, "one MODEL is sampled; a problem is given with --problem"))
    model, problems = options.pop("model"), options.pop("problem") or []
    del options["plugins"]  # loaded before
    protocol = read_protocol(options)

    from unigrad.versions import warn_of_untested

    warn_of_untested()
    from unigrad.evaluate.sample import sample

    return sample(model, problems, protocol)


def parser() -> Parser:
    parser = Parser(
        prog="unigrad sample",
        usage="unigrad sample MODEL [--problem TEXT ...] [--section.key VALUE ...]",
        description="Print a model's completions of problems, prompted as the run that it comes from was. Without\n"
        "--problem each line that is typed or piped is one: under a chat template a turn of one chat.",
        epilog="\n".join(template_lines()),
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=given,
        help="a run's final/ or checkpoint, a folder, a hub id, a .gguf file, or `tiny`",
    )
    parser.add_argument("--problem", metavar="TEXT", type=given, action="append", help="again for more")
    parser.add_argument(plugins.OPTION, metavar="MODULE[,...]", help=plugins.HELP)
    add_protocol(parser, without=("data.max_eval_problems", "verify.no_box"))
    return parser
