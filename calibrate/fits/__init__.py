"""Fits of the world around a venue to data: the oracle to round logs, depth to quotes, the book to tables of accounts."""
