//! The command line: glusterfs spellings, the mount helper, subcommands.
