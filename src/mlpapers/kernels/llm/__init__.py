"""Language models behind one protocol: clients, retries, budgets, and recorded conversations."""
