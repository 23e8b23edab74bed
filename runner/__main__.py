"""``python -m runner`` and the script ``runner``: imports next to nothing, so that even an early Ctrl-C ends in quiet."""


def main() -> None:
    """Run the command line."""
    try:
        from runner.cli.main import main as command_line
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command_line()


if __name__ == "__main__":
    main()
