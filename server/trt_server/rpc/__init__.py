"""The gRPC side: requests are decoded and checked, results encoded, errors given their status."""
