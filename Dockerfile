# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /src
# Dependencies first: they change seldom, and their layer is kept.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches tests/it \
    && echo '//! Stand-in.' > src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && touch benches/retention.rs benches/pages.rs benches/import.rs benches/marks.rs benches/kernel.rs benches/scale.rs benches/redis_eval.rs benches/plan.rs tests/it/main.rs \
    && cargo build --release --locked --bin cohortist \
    && rm -rf src
COPY src src
COPY templates templates
COPY static static
COPY askama.toml* ./
# The stand-ins are newer than the sources as copied: make sure these are built.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --bin cohortist

FROM debian:12.12-slim
# curl for the health check; certificates for rediss://.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data cohortist \
    && install -d -o cohortist -g cohortist /data
COPY --from=build /src/target/release/cohortist /usr/local/bin/cohortist
USER cohortist
WORKDIR /data
VOLUME /data
# The store is ./cohortist.db, here /data/cohortist.db, unless COHORTIST_STORE or a /data/cohortist.toml names others.
ENV COHORTIST_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=3s --start-period=5s CMD ["curl", "-fsS", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["cohortist"]
CMD ["serve"]
