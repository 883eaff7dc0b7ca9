USES := libkoal/base libkoal/env libkoal/http libkoal/bus libtsproto
