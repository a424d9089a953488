//! The environment of a job.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use super::Crew;

/// A name and its value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// Variables that neither a launch on behalf of a user nor a module of PAM sets,
/// since programs believe them: who the user is, which job this is, and what a
/// service manager or sudo would say. `_` at the end stands for whatever
/// follows it.
const RESERVED: [&[u8]; 7] = [
    b"USER",
    b"LOGNAME",
    b"FLUX_",
    b"WARRANT_",
    b"LISTEN_",
    b"NOTIFY_SOCKET",
    b"SUDO_",
];

fn is_reserved(name: &[u8]) -> bool {
    RESERVED.iter().any(|word| match word.ends_with(b"_") {
        true => name.starts_with(word),
        false => name == *word,
    })
}

/// Puts the environment together from nothing. What says which process of
/// which job this is has the last word, then the launch, then the session,
/// then the account. Where jobs run as the broker's own user, the launch is the
/// broker's to make.
/// Source: the variables that flux-shell(1) sets for each task.
pub(super) fn build(given: &[Entry], crew: &Crew<'_>, rank: u16) -> Vec<Entry> {
    let account = account(crew);
    let own = own(crew, rank);
    let session = crew.user.map_or(&[][..], |user| user.session);
    let is_free = |(name, _): &&Entry| crew.user.is_none() || !is_reserved(name);
    let free = |layer: &[Entry]| layer.iter().filter(is_free).cloned().collect::<Vec<_>>();
    let (given, session) = (free(given), free(session));
    let mut seen = HashSet::new();
    let mut layers: Vec<Vec<Entry>> = [&own, &given, &session, &account]
        .into_iter()
        .map(|layer| {
            let new = layer.iter().filter(|(name, _)| seen.insert(name.clone()));
            new.cloned().collect()
        })
        .collect();
    layers.reverse();
    layers.concat()
}

fn account(crew: &Crew<'_>) -> Vec<Entry> {
    let Some(user) = crew.user else {
        return Vec::new();
    };
    let name = user.account.name.as_bytes();
    [
        ("HOME", user.account.home.as_os_str().as_bytes()),
        ("USER", name),
        ("LOGNAME", name),
        ("SHELL", user.account.shell.as_os_str().as_bytes()),
        ("PATH", user.policy.path.as_bytes()),
    ]
    .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
    .to_vec()
}

fn own(crew: &Crew<'_>, rank: u16) -> Vec<Entry> {
    let rank = rank.to_string();
    let job = crew.order.run.job.to_string();
    let gpus: Vec<String> = crew
        .order
        .placement
        .gpus
        .iter()
        .map(u16::to_string)
        .collect();
    let mut own = vec![
        ("FLUX_JOB_ID", job.clone()),
        ("FLUX_JOB_SIZE", crew.count.to_string()),
        ("FLUX_JOB_NNODES", "1".to_owned()),
        ("FLUX_TASK_RANK", rank.clone()),
        ("FLUX_TASK_LOCAL_ID", rank),
    ];
    if crew.user.is_some() {
        own.push(("WARRANT_JOB_ID", job));
    }
    if !gpus.is_empty() {
        own.push(("CUDA_VISIBLE_DEVICES", gpus.join(",")));
    }
    own.into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}
