"""How the models that ship with secureimg were trained: one command and one fixed seed for each (see README.md)."""
