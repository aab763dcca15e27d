//! Appends while a scripted rebalance moves their file: they are in the file once, wherever it is in the end.

use super::*;

const APPEND: i32 = libc::O_WRONLY | libc::O_APPEND;

/// Brick 0 and 1 with the data "0123456789" on the first, which moves to the second one.
fn moving() -> Moving {
    let file = Moving::new(APPEND);
    file.advance(None, When::Moving);
    file
}

fn assert_no_locks(file: &Moving) {
    file.ask(|_, _, _| async {});
    assert!(file.cluster.bricks.iter().all(|brick| brick.held_locks() == 0));
}

#[test]
fn what_was_appended_at_the_source_reaches_the_destination() {
    for (there, expected) in [
        ("0123456789", "0123456789ab"),
        ("0123456789XY", "0123456789XYab"),
        ("0123456789X", "0123456789Xab"),
        // It was copied.
        ("0123456789ab", "0123456789ab"),
        ("0123456789abXY", "0123456789abXY"),
        // Whoever was to come before it does not.
        ("01234567", "01234567ab"),
    ] {
        let file = moving();
        while_awaited(&file, 0, move |source, aim, path| {
            assert!(aim.xattr(path, keys::PROTECT_WRITES).is_some(), "what is copied from now on is refused");
            complete(source, aim, path);
            aim.put_data(path, there.as_bytes());
        });
        write_ab(&file);
        assert_eq!(file.data(), expected, "{there}");
        assert_eq!(file.cluster.bricks[1].xattr(&file.path, keys::PROTECT_WRITES), None, "it may move on");
        // From now on that is one write.
        file.cluster.traces();
        write_ab(&file);
        assert_eq!(file.cluster.traces(), [&[][..], &["WRITE"]]);
        assert_no_locks(&file);
    }
}

#[test]
fn a_move_that_is_given_up() {
    let file = moving();
    while_awaited(&file, 0, |source, aim, path| source.give_up_move(aim, path));
    write_ab(&file);
    assert_eq!(file.cluster.bricks[0].data(&file.path), b"0123456789ab");
    // And one whose mover has died: its lock is free, and its marks stay.
    file.advance(None, When::Moving);
    write_ab(&file);
    file.cluster.bricks[0].give_up_move(&file.cluster.bricks[1], &file.path);
    assert_eq!(file.cluster.bricks[0].data(&file.path), b"0123456789abab");
    assert_no_locks(&file);
}

#[test]
fn a_file_that_has_moved() {
    for when in [When::Moved, When::Gone] {
        let file = Moving::new(APPEND);
        file.advance(None, when);
        write_ab(&file);
        file.advance(Some(when), When::Gone);
        assert_eq!(file.data(), "0123456789ab", "{when:?}");
        assert_no_locks(&file);
    }
}

/// The file goes on to where it came from while the lock is awaited, with or without what was appended.
#[test]
fn a_file_that_moves_on() {
    for (copied, finished) in [(true, true), (true, false), (false, true), (false, false)] {
        let file = moving();
        while_awaited(&file, 0, move |source, aim, path| {
            if copied {
                source.copy_to(aim, path);
            }
            complete(source, aim, path);
            aim.begin_move(source, path);
            aim.copy_to(source, path);
            if finished {
                complete(aim, source, path);
            }
        });
        if !finished {
            while_awaited(&file, 1, |source, aim, path| complete(aim, source, path));
        }
        write_ab(&file);
        assert_eq!(file.cluster.bricks[0].data(&file.path), b"0123456789ab", "{copied} {finished}");
        assert_no_locks(&file);
    }
}

#[test]
fn what_was_appended_at_the_destination_too_early() {
    // It stays there, or is copied over, or the move is given up.
    let file = with_a_memory_of_the_destination(APPEND);
    while_awaited(&file, 0, |source, aim, path| {
        aim.put_data(path, b"0123456789ab");
        complete(source, aim, path);
    });
    write_ab(&file);
    assert_eq!(file.data(), "0123456789ab");
    assert_no_locks(&file);

    let file = with_a_memory_of_the_destination(APPEND);
    while_awaited(&file, 0, |source, aim, path| {
        source.put_data(path, b"0123456789XY");
        source.copy_to(aim, path);
        complete(source, aim, path);
    });
    write_ab(&file);
    assert_eq!(file.data(), "0123456789XYab");

    let file = with_a_memory_of_the_destination(APPEND);
    while_awaited(&file, 0, |source, aim, path| source.give_up_move(aim, path));
    write_ab(&file);
    assert_eq!(file.cluster.bricks[0].data(&file.path), b"0123456789ab");
}

/// The record of somebody else, at the place where ours was lost.
#[test]
fn an_equal_record_is_not_ours() {
    let file = Moving::new(APPEND);
    file.advance(None, When::Moved);
    file.cluster.bricks[0].put_data(&file.path, b"");
    file.cluster.bricks[1].put_data(&file.path, b"ab");
    write_ab(&file);
    assert_eq!(file.data(), "abab");
}

#[test]
fn a_file_that_came_back() {
    let file = Moving::new(APPEND);
    write_ab(&file);
    go_and_come_back(&file);
    for _ in 0..2 {
        write_ab(&file);
    }
    assert_eq!(file.cluster.bricks[0].data(&file.path), b"0123456789abab");
}

#[test]
fn a_file_that_was_removed() {
    let file = moving();
    while_awaited(&file, 0, |source, aim, path| {
        source.lose(path);
        aim.lose(path);
    });
    write_ab(&file);
}

#[test]
fn bits_of_a_user() {
    for mode in [0o103_644, 0o101_000] {
        let file = Moving::new(APPEND);
        let stat = Iatt { mode, ..Iatt::default() };
        file.ask(|context, top, file| async move {
            top.setattr(&context, &file.loc, &stat, set_attr::MODE, Dict::NULL).await.unwrap();
            let data = smallvec![Bytes::from_static(b"ab")];
            let reply = top.writev(&context, &file.fd, data, 0, 0, Dict::NULL).await.unwrap();
            assert_eq!(reply.post.mode, mode);
        });
        assert_eq!(file.cluster.bricks[0].data(&file.path), b"0123456789ab");
        let traces = file.cluster.traces();
        assert!(!traces[0].iter().any(|fop| fop.starts_with("INODELK")), "{traces:?}");
    }
}
