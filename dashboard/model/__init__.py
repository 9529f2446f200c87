"""What the page shows, worked out of what NATS and the warehouse say. Pure: no Panel, no NATS, no clock."""
