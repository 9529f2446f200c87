"""Dead letters for people: listed, shown, brought back."""
