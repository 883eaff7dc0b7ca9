#ifndef KOALEMOS_CLUSTER_H
#define KOALEMOS_CLUSTER_H
int koalemos_cluster(int argc, char **argv, int first);
#endif
