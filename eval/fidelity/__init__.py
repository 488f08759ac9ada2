"""How close generated jets are to reference jets: distances with errors, floors and tests."""
