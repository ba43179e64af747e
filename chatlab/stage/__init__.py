"""The instructor's stage: a small cluster with two chat windows, and switches that break it.

`chatlab demo` runs it. It is for a room that watches, on one machine; it stores nothing and serves
no real chat.
"""
