//! Where a bucket is when its URL does not say: the environment, then the profile in `~/.aws/config`, then Amazon's first.

use std::path::PathBuf;

/// What is assumed where nothing says; other servers than Amazon's ignore it, as a rule.
pub(super) const DEFAULT: &str = "us-east-1";

/// The region for requests with this profile.
pub(super) fn default(profile: Option<&str>) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let of_profile = || {
        let profile = profile.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
        let file = variable("AWS_CONFIG_FILE").map(PathBuf::from);
        let file = file.or_else(|| Some(std::env::home_dir()?.join(".aws/config")))?;
        let text = std::fs::read_to_string(file).ok()?;
        in_file(&text, profile.as_deref().unwrap_or("default"))
    };
    variable("AWS_REGION")
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(of_profile)
        .unwrap_or_else(|| DEFAULT.to_owned())
}

/// The region in the section of a profile: `[default]`, `[profile name]`.
fn in_file(text: &str, profile: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
            .map(str::trim)
        {
            let name = section.strip_prefix("profile ").map_or(section, str::trim);
            inside = name == profile;
        } else if inside
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "region"
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_s_own_section_says() {
        let text = "# mine\n[default]\nregion = eu-west-1\n\n[profile work]\noutput=json\nregion=us-west-2\n[profile bare]\n";
        assert_eq!(in_file(text, "default").as_deref(), Some("eu-west-1"));
        assert_eq!(in_file(text, "work").as_deref(), Some("us-west-2"));
        assert_eq!(in_file(text, "bare"), None);
        assert_eq!(in_file(text, "absent"), None);
    }
}
