"""What PyPI calls pyzed: one module, without `sl`."""
