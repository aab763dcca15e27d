//! Listens to the children, and announces what they add up to (`afr_notify`).

use std::sync::Arc;
use std::time::Duration;

use super::changelog::Kind;
use super::core::Core;
use super::thin_arbiter_io::NOTIFY;
use crate::event::{Event, Status};
use crate::task;

/// How long silent children are waited for (`__afr_launch_notify_timer`).
const PATIENCE: Duration = Duration::from_secs(10);

/// Begins to listen.
pub(super) fn watch(core: &Arc<Core>) {
    for (index, child) in core.children.iter().enumerate() {
        child.events().subscribe_for(core, move |core, event| heard(core, index, event));
    }
    if let Some(arbiter) = &core.thin_arbiter {
        arbiter.child().events().subscribe_for(core, heard_thin_arbiter);
        let status = arbiter.child().events().status();
        if status != Status::Connecting {
            thin_arbiter_changed(core, status);
        }
    }
    // A child may have spoken before anybody listened.
    for (index, child) in core.children.iter().enumerate() {
        let status = child.events().status();
        if status != Status::Connecting {
            changed(core, index, status);
        }
    }
    let (above, patience) = (Arc::downgrade(core), core.clock.sleep(PATIENCE));
    task::spawn(async move {
        patience.await;
        if let Some(core) = above.upgrade() {
            core.with_family(|family| family.stop_waiting());
            announce(&core);
        }
    });
}

fn heard(core: &Arc<Core>, index: usize, event: &Event) {
    match event {
        Event::Status(status) => changed(core, index, status.clone()),
        Event::InodelkContention { gfid, domain, .. } => match domain.strip_prefix(&*core.name) {
            Some("") => core.contended(*gfid, Kind::Data),
            // The brick has moved the lock there (`_pl_convert_volume_for_special_range`).
            Some(":metadata") => core.contended(*gfid, Kind::Metadata),
            _ => core.events.announce(event),
        },
        other => core.events.announce(other),
    }
}

fn heard_thin_arbiter(core: &Arc<Core>, event: &Event) {
    match (event, &core.thin_arbiter) {
        (Event::Status(status), _) => thin_arbiter_changed(core, status.clone()),
        (Event::InodelkContention { domain, .. }, Some(arbiter)) if **domain == *NOTIFY => arbiter.contended(),
        _ => {}
    }
}

fn thin_arbiter_changed(core: &Arc<Core>, status: Status) {
    if let Some(arbiter) = &core.thin_arbiter {
        arbiter.connected(status == Status::Up);
    }
    core.with_family(|family| family.heard_thin_arbiter(status));
    announce(core);
}

fn changed(core: &Arc<Core>, index: usize, status: Status) {
    let before = core.snapshot().generation;
    core.with_family(|family| family.heard(index, status));
    if core.snapshot().generation != before {
        // Others may have changed what a child missed; nobody knows before the bricks say so.
        core.health.doubt();
        // A mark that is put off for long may come to nothing when further children go.
        core.end_sessions_soon();
    }
    announce(core);
}

/// Announces what the family adds up to until that is what was announced last: between the two another thread may have
/// announced newer news of another child.
fn announce(core: &Core) {
    let mut said = None;
    loop {
        let status = core.with_family(|family| family.overall());
        if status == Status::Connecting || said.as_ref() == Some(&status) {
            return;
        }
        core.events.announce(&Event::Status(status.clone()));
        said = Some(status);
    }
}
