# The root filesystem of the windlass plugin: the static binary, the filesystem tools that it runs, and nothing else.
#
#   docker build .                  compiles the binary in the stage `builder`
#   docker build --target host --build-arg BINARY=build/plugin/windlass .
#                                   takes the binary that cargo built here; `make rootfs` does this
#
# Docker's classic builder runs every stage up to the target, in order, and BuildKit those that the target needs. So `host`
# stands before `builder`: with either of them it needs no rust image, and none can be pulled where there is no registry.
# `make base-image` makes debian:bookworm-slim there.

ARG BASE_IMAGE=debian:bookworm-slim
ARG RUST_IMAGE=rust:1-slim-bookworm

FROM ${BASE_IMAGE} AS tools
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        e2fsprogs xfsprogs btrfs-progs thin-provisioning-tools kmod nfs-common ca-certificates >/dev/null
# Each tool goes into /rootfs with the libraries that it loads, and must start there: 127 says that one is missing.
# libgcc_s is a library that no ldd shows: the C library opens it when btrfs cancels a thread.
# No shell goes in: windlass runs programs, not scripts.
RUN set -eu; \
    mkdir -p /rootfs; cd /rootfs; \
    mkdir -p dev etc mnt/volumes proc run/docker/plugins state sys usr/bin usr/lib usr/lib64 usr/sbin var; \
    mkdir -m 1777 tmp; mkdir -m 0700 root; ln -s /run var/run; ln -s /proc/self/mounts etc/mtab; \
    for dir in bin lib lib64 sbin; do ln -s usr/$dir $dir; done; \
    cp --parents -L /etc/mke2fs.conf /etc/netconfig /etc/nsswitch.conf /etc/passwd /etc/group \
        /etc/ssl/certs/ca-certificates.crt /usr/lib/*/libgcc_s.so.1 .; \
    tools="mke2fs mkfs.ext4 e2fsck fsck.ext4 resize2fs tune2fs dumpe2fs \
        mkfs.xfs xfs_repair xfs_growfs xfs_db pdata_tools thin_check thin_repair thin_dump \
        kmod modprobe mkfs.btrfs btrfs btrfstune \
        mount umount mount.nfs mount.nfs4 umount.nfs umount.nfs4"; \
    for tool in $tools; do \
        path=$(command -v $tool); \
        cp --parents -d $path .; \
        cp --parents -L $(ldd $path | grep -oE '(/usr)?/lib[^ ]+' | sed 's,^/lib,/usr/lib,') .; \
    done; \
    ldconfig -r .; \
    for tool in $tools; do \
        chroot . $tool -V >/tmp/said 2>&1 </dev/null || [ $? != 127 ] || { cat /tmp/said; exit 1; }; \
    done

# Docker refuses to create a plugin whose root filesystem it has already: the build id tells two builds apart.
FROM tools AS stamp
LABEL windlass=rootfs
ARG BUILD_ID=unknown
RUN echo "$BUILD_ID" >/windlass-build

FROM scratch AS base
LABEL windlass=rootfs
COPY --from=tools /rootfs /
COPY --from=stamp /windlass-build /etc/windlass-build
ENTRYPOINT ["/usr/bin/windlass"]

# BINARY's default is but a file that is always there: the classic builder runs this stage before `builder` too.
FROM base AS host
ARG BINARY=LICENSE
COPY ${BINARY} /usr/bin/windlass

FROM ${RUST_IMAGE} AS builder
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        musl-tools clang libdevmapper-dev pkg-config >/dev/null \
 && rustup target add x86_64-unknown-linux-musl
WORKDIR /windlass
COPY Cargo.toml Cargo.lock ./
COPY src src
ENV CC_x86_64_unknown_linux_musl=musl-gcc PKG_CONFIG_ALLOW_CROSS=1
RUN cargo build --release --locked --target x86_64-unknown-linux-musl

FROM base
COPY --from=builder /windlass/target/x86_64-unknown-linux-musl/release/windlass /usr/bin/windlass
