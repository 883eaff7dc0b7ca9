#ifndef DM_GRPC_H
#define DM_GRPC_H
/* OTLP over gRPC: the doorman's other door, on a port of its own; open where otlp.grpc_listen says so. */
#include "doorman/doorman.h"
#include "libkoal/app/app.h"

struct dm_grpc;
/* Listens and serves. *grpc is NULL where the configuration names no address. */
enum kl_code dm_grpc_open(struct dm_doorman *d, const struct kl_app *app, struct dm_grpc **grpc,
                          struct kl_err *err);
unsigned dm_grpc_port(const struct dm_grpc *g);
/* Before the doorman ends: no new calls, waits for answers, then ends. NULL is fine. */
void dm_grpc_close(struct dm_grpc *g, int64_t drain_ms);
#endif
