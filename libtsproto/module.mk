USES := libkoal/base
LIBS := -lzstd -lsnappy -lz -lprotobuf-nanopb
