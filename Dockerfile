# docker build -t nautilus . && docker run -p 1883:1883 -e DOCKER_VERNEMQ_ALLOW_ANONYMOUS=on \
#   -e DOCKER_VERNEMQ_LISTENER__TCP__DEFAULT=0.0.0.0:1883 nautilus
FROM node:20-slim AS build
WORKDIR /app
COPY package.json package-lock.json tsconfig.json tsconfig.build.json ./
RUN npm install --no-save --no-audit --no-fund
COPY core core
COPY plugins plugins
COPY test/bench test/bench
RUN npm run build && npm prune --omit=dev

FROM node:20-slim
WORKDIR /app
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY lua lua
COPY core/admin/http/status-page core/admin/http/status-page
COPY package.json LICENSE README.md ./
RUN mkdir -p /vernemq/data && chown node:node /vernemq/data
USER node
ENV NAUTILUS_DATA_DIR=/vernemq/data
VOLUME /vernemq/data
EXPOSE 1883 8883 8080 8888
HEALTHCHECK CMD ["node", "dist/core/main.js", "ping"]
CMD ["node", "dist/core/main.js", "console"]
