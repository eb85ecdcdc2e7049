"""The in-memory twin of every port, a file a technology; they keep the same contracts as the real parts."""
