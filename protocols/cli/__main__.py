"""`python -m protocols.cli`: how a command starts a server as a process of its own."""

from protocols.cli.app import main

if __name__ == "__main__":
    main()
