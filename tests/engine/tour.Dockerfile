# windlass-tour: stands in for the image postgres:17 of README's tour where no registry answers. Debian's PostgreSQL, with the data
# directory, the variable and the ways of the official image, as far as the tour needs them.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql postgresql-contrib >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/*/main \
 && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
LABEL org.opencontainers.image.title=windlass-tour
ENV PGDATA=/var/lib/postgresql/data
RUN { echo '#!/bin/sh'; echo 'set -e'; \
      echo 'mkdir -p "$PGDATA" && chown postgres: "$PGDATA" && chmod 0700 "$PGDATA"'; \
      echo 'as="setpriv --reuid=postgres --regid=postgres --init-groups"'; \
      echo 'echo "$POSTGRES_PASSWORD" >/tmp/password && chmod 0644 /tmp/password'; \
      echo '[ -e "$PGDATA/PG_VERSION" ] || $as initdb --auth-local=trust --auth-host=trust --pwfile=/tmp/password >/dev/null'; \
      echo 'exec $as postgres -c listen_addresses=127.0.0.1'; } >/usr/local/bin/entry && chmod 0755 /usr/local/bin/entry
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/entry"]
