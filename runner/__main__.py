"""Entry point of ``python -m runner`` and the script ``runner``. It imports little, so that an early Ctrl-C ends quietly."""


def main() -> None:
    """Run the command line."""
    try:
        from runner.cli.main import main as command_line
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command_line()


if __name__ == "__main__":
    main()
