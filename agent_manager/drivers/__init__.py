"""How an agent is run: the protocol every driver keeps, and the driver for processes of this machine."""
