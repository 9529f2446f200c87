"""Where events go, one file each. An exporter is called by a thread of its own, and may wait there; it must not wait for ever."""
