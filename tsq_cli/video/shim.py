
def deadline(path, seconds, should_stop):
    return should_stop
def timed_out(path, seconds):
    from tsq_cli.errors import VideoError
    return VideoError(f"{path} timed out", wanted="x", fix="y")
