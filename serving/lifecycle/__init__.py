"""What lives as long as the endpoint: its parts, the adapters that serve, the record of each response."""
