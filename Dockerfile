# One image for every role: docker run IMAGE publish | consume … | dashboard | demo
#
# BASE is any Debian-like image that has python3 (3.11 or newer) with venv: the
# official slim image by default, or one made with debootstrap (see .ci/image).
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
# For example "[pandas]"; empty keeps the image small.
ARG EXTRAS=""
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bus bus
COPY publisher publisher
COPY consumers consumers
COPY tvbus tvbus
# The two secrets are optional. They bring the package index settings and the
# certificates of the building machine and leave no trace in the image.
RUN --mount=type=secret,id=pip_config,target=/run/secrets/pip_config \
    --mount=type=secret,id=certificates,target=/run/secrets/certificates \
    if [ -s /run/secrets/pip_config ]; then export PIP_CONFIG_FILE=/run/secrets/pip_config; fi \
 && if [ -s /run/secrets/certificates ]; then export PIP_CERT=/run/secrets/certificates; fi \
 && python3 -m venv /opt/tvbus \
 && /opt/tvbus/bin/pip install --no-cache-dir --disable-pip-version-check \
        -c constraints.txt ".${EXTRAS}" \
 && /opt/tvbus/bin/pip uninstall --yes --quiet pip \
 && /opt/tvbus/bin/python -c "import bus, consumers, publisher, tvbus"

FROM ${BASE}
LABEL org.opencontainers.image.title="tvbus" \
      org.opencontainers.image.description="Closed price bars from one TradingView session, on Redis Streams" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --system --gid 10001 tvbus \
 && useradd --system --uid 10001 --gid tvbus --home-dir /data --shell /usr/sbin/nologin tvbus \
 && install -d -o tvbus -g tvbus -m 0700 /data
COPY --from=build /opt/tvbus /opt/tvbus
ENV PATH=/opt/tvbus/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TVBUS_STATE_DIR=/data \
    TVBUS_LISTEN=127.0.0.1:9464
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["tvbus", "status", "--health"]
ENTRYPOINT ["tvbus"]
CMD ["--help"]
