"""What may stand in an event: content dropped or kept by its tenant's policy, findings replaced, values cut to size. Pure."""
