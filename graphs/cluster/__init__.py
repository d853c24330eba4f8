"""Experts on the machines of a Ray cluster. The graph stays where it is; only who runs experts changes.

    executor = RayExecutor.open("auto", data_dir)      # or ray://HOST:10001, or HOST:6379
    open_runtime(settings, executor=executor)          # does both by itself where the settings name a cluster

    this process               its child (driver.py)            a machine of the cluster
    RayExecutor → Gateway  ⇄   Driver → Pool           ⇄        Host (host.py), one per expert and machine

The child holds the connection to Ray, because Ray ends a process whose cluster is gone for a minute: the
front end must outlive that. When the child dies another takes its place and asks again for what is not
there yet, by the same keys; a host that has made or is making it answers with that.
"""
