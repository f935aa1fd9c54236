# Builds perch and its page, then keeps the binary, and what sessions find in their shells.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl git less nodejs npm procps python3 vim-tiny && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin perch \
    && install -d -o perch -g perch -m 0700 /data
COPY --from=build /build/target/release/perch /usr/local/bin/perch
USER perch
ENV PERCH_DATA=/data PERCH_LISTEN=0.0.0.0:7744
VOLUME /data
EXPOSE 7744
HEALTHCHECK --interval=10s --timeout=5s --start-period=45s CMD curl -fsS http://127.0.0.1:7744/readyz
ENTRYPOINT ["perch"]
CMD ["serve"]
