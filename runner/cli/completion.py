"""``runner completion``: the script with which a shell completes commands, options and their values."""

import click

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_RUNNER_COMPLETE"
"""The variable by which the script asks for completions; click makes its name from that of the program."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes `runner` in a shell.

    \b
    bash:  echo 'eval "$(runner completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(runner completion zsh)"' >> ~/.zshrc
    fish:  runner completion fish > ~/.config/fish/completions/runner.fish
    """  # noqa: D301 - \b tells click to keep the lines as they are
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root()
    made = get_completion_class(shell)
    assert made is not None
    script = made(root.command, {}, "runner", VARIABLE).source()
    # click's script for fish takes what it is offered apart at every comma, of which descriptions and lists of values have more
    click.echo(script.replace('string split ","', 'string split --max 1 ","'))
