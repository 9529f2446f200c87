"""Any named query of the warehouse, its options taken from the contract."""
