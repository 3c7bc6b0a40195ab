"""Who does which step and what crosses the wire: messages, state machines, transports, servers, command line."""
