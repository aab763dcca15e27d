//! The file-operation program (GlusterFS 4.x v1, version 400): every procedure, both directions.
