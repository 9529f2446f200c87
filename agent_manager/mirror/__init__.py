"""A mirror of agents in Firestore, for who watches and steers them from Google Cloud: a process of its own, which may be away."""
