"""Where bytes are: a directory of this machine, a bucket of an S3-compatible server, or memory."""
