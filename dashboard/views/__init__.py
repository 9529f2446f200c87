"""What Panel carries: one component a tab that draws the page, and two live plots inside it."""
