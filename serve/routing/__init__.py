"""Which model answers a request for ``auto``: features of the request, a policy, and a decision with its reason."""
