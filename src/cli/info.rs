//! `windlass info`.

use clap::Args;

use super::screen::ago;
use super::sheet::Sheet;
use super::{Error, Screen};
use crate::api::types::Info as Answer;
use crate::client::Client;

/// Show the daemon, its drivers and what needs attention
#[derive(Debug, Args)]
pub struct Info {}

impl Info {
    pub(super) async fn run(self, client: &Client, screen: &mut Screen) -> Result<(), Error> {
        let info = client.info().await?;
        if screen.json() {
            return screen.value(&info);
        }
        let text = text(&info, client, screen);
        screen.text(&text)
    }
}

fn text(info: &Answer, client: &Client, screen: &Screen) -> String {
    let general = &info.general;
    let mut sheet = Sheet::default();
    sheet.line("Version", &general.version);
    sheet.line("Socket", client.socket().display().to_string());
    sheet.line("Root", &general.root);
    sheet.line("State id", &general.state_id);
    let started = ago(&general.started_at, screen.now());
    sheet.line("Running", format!("since {started}, process {}", general.pid));
    sheet.line(
        "Volumes",
        format!("{}, {} of them mounted", general.volumes, general.mounted),
    );
    let drivers: Vec<String> = general
        .driver_list
        .iter()
        .map(|driver| match *driver == general.default_driver {
            true => format!("{driver} (default)"),
            false => driver.clone(),
        })
        .collect();
    sheet.line("Drivers", drivers.join(", "));
    for warning in &general.warnings {
        sheet.alarm("Warning", warning, screen);
    }
    let mut text = sheet.render(0);
    for (name, entries) in &info.drivers {
        let mut sheet = Sheet::default();
        sheet.entries(entries, &["Driver"]);
        text.push_str(&format!("\n{}\n{}", screen.bold(name), sheet.render(2)));
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_and_its_drivers() {
        let info: Answer = serde_json::from_value(serde_json::json!({
            "General": {
                "Version": "0.1.0", "Root": "/var/lib/windlass", "DriverList": ["vfs", "devicemapper"],
                "DefaultDriver": "vfs", "Pid": 7, "StartedAt": "2026-11-20T08:00:00Z", "StateID": "0a1b",
                "Volumes": 3, "Mounted": 1, "Warnings": ["the disk of vfs is nearly full"]
            },
            "vfs": {"Driver": "vfs", "Root": "/var/lib/windlass/vfs", "DefaultVolumeSize": "107374182400"}
        }))
        .unwrap();
        let screen = Screen::of_test(Box::new(Vec::new()), Box::new(Vec::new()), None, Some(80));
        let text = text(&info, &Client::new("/w.sock"), &screen);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "Version:   0.1.0",
                "Socket:    /w.sock",
                "Root:      /var/lib/windlass",
                "State id:  0a1b",
                "Running:   since 3d ago, process 7",
                "Volumes:   3, 1 of them mounted",
                "Drivers:   vfs (default), devicemapper",
                "Warning:   the disk of vfs is nearly full",
                "",
                "vfs",
                "  Root:                 /var/lib/windlass/vfs",
                "  Default volume size:  100 GiB (107374182400 bytes)",
            ]
        );
    }
}
