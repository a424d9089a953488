//! `warrant nodes`: the machines that jobs can run on.

use serde_json::Value;

use crate::client::{Client, Request, not_understood};
use crate::commands::{Show, print_json};
use crate::failure::Failure;
use crate::table::{self, Column};

/// List the nodes that are up.
pub(crate) fn nodes(client: &mut Client, show: Show) -> Result<(), Failure> {
    let request = Request::Get("/v1/nodes", vec![]);
    let answer = client.answer(&request)?.success()?;
    if show.json {
        return print_json(&answer, show.look);
    }
    let reply = answer.json()?;
    let names = reply.get("nodes").and_then(Value::as_array);
    let names = names.ok_or_else(not_understood)?.iter();
    let rows = names
        .filter_map(|name| Some(vec![name.as_str()?.into()]))
        .collect();
    table::print(&[Column::new("NODE")], rows, show.look)
}
