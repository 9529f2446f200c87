"""From what is desired to what is: the states, their legal moves, the decision, and the one task per agent that acts on it."""
