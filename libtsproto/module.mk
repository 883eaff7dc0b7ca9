USES := libkoal/base
LIBS := -lzstd -lsnappy -lz -lprotobuf-nanopb
PROTOS := select.proto placement.proto node.proto
