# windlass-postgres: a real PostgreSQL from Debian's packages, for the tests of hooks. `make postgres` builds it.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql postgresql-contrib >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/*/main \
 && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
LABEL org.opencontainers.image.title=windlass-postgres
USER postgres
CMD ["/bin/sh"]
