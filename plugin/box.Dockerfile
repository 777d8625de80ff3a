# windlass-box: a shell with coreutils, for the demo and the tests. It adds nothing to the base image but a name of its own.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title=windlass-box
CMD ["/bin/sh"]
