"""Measurements: `make bench` holds chatlab against Node's Socket.IO and stock python-socketio."""
