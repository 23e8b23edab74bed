"""What the documents type into a shell: which commands can run here, and how ``runner`` is called in them."""

import re
import shlex

import click

from runner.cli.commands import cli

NOT_HERE = {
    "pip": "takes packages from the network",
    "pipx": "takes packages from the network",
    "uv": "takes packages from the network",
    "uvx": "takes packages from the network",
    "apt": "changes the machine",
    "apt-get": "changes the machine",
    "brew": "changes the machine",
    "vllm": "a server for models, which needs a GPU",
    "llama-server": "a server for models, which needs the weights of one",
    "ollama": "a server for models, which needs the weights of one",
    "docker": "needs Docker",
    "sbatch": "needs Slurm",
    "srun": "needs Slurm",
    "squeue": "needs Slurm",
    "scancel": "needs Slurm",
    "datasette": "a program of others, which serves until it is stopped",
    "man": "shows a page until a key is pressed",
    "kubectl": "needs Kubernetes",
    "az": "needs an account of Azure",
    "mkdocs": "tests/flow/test_site.py builds the site",
}
"""First words of commands that are not run, and why. The ``runner`` commands among them are read by click all the same."""

CAMPAIGN = re.compile(r"python3? (?:-m (?:benchmarks|tests)\.|tests/support/)")
"""Commands of a checkout that take minutes; each has a test of its own."""
SHELL_WORDS = re.compile(r"(?:^|[;&|]\s*)(?:for|while|if|case|set|trap|function)\b|<<|^\w+\(\)", re.MULTILINE)


def plain(command: str) -> bool:
    """Return True if a command needs no shell: no pipe, variable, pattern or the like outside of quotation marks."""
    bare = re.sub(r"'[^']*'", "''", command.replace("\\\n", " "))
    if re.search(r"[$`]", bare):
        return False
    bare = re.sub(r"(^|\s)#.*", "", re.sub(r'"(?:[^"\\]|\\.)*"', '""', bare))
    return not re.search(r"[|&;<>()*?\[\n~]|^\w+=", bare)


def runner_commands(text: str) -> list[list[str]]:
    """Return the words of each ``runner`` command in a text for a shell."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("#"):
            continue
        for part in re.findall(r"(?:^|[\s;&|(/])runner ((?:'[^']*'|\"(?:[^\"\\]|\\.)*\"|[^|;&<>)'\"]|(?<=\s)<\()*)", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue
            # `runner` is also the name of a file or of a package
            if words and words[0] in cli.commands:
                found.append(words)
    return found


def read_by_click(words: list[str], place: str) -> None:
    """Check that click takes a command with its options; nothing runs."""
    try:
        with cli.commands[words[0]].make_context(words[0], words[1:]):
            pass
    except click.exceptions.Exit:
        # --help
        return
    except click.ClickException as error:
        raise AssertionError(f"{place}: runner {' '.join(words)}\n{error.format_message()}") from None
