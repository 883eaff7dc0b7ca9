#ifndef KOALEMOS_SERVE_CATALOGUE_H
#define KOALEMOS_SERVE_CATALOGUE_H
/*
 * The catalogue of a `serve` that runs, for commands beside it: its KV is in the process, so what a command would
 * ask NATS for in a cluster it asks for here (reach.c does). POST /api/v1/koalemos/catalogue, a form:
 *
 *   key=K                        200, the revision on a line, then the value; 404 without the key
 *   key=K&expect=R&value=HEX     200, the new revision; 409 where the key's revision is not R (0: it is absent)
 *   log=P                        200, incarnation, first and last position of the partition's log
 *
 * K is read where it begins with "placement", written and read where it is "catalogue.<pppp>".
 */
#include "libkoal/bus/bus.h"
#include "libkoal/env/env.h"
#include "libkoal/http/http.h"

#define SERVE_CATALOGUE_PATH "/api/v1/koalemos/catalogue"

struct serve_catalogue;
struct serve_catalogue *serve_catalogue_new(struct kl_env *env, struct kl_bus *bus, uint32_t partitions,
                                            struct kl_http_server *http);
void serve_catalogue_free(struct serve_catalogue *s);  /* after the bus was closed */
#endif
