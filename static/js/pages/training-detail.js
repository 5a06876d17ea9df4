/** An export under way, live. */

import { api } from "../api.js";
import { followWork } from "../work_text.js";

const { id } = JSON.parse(document.getElementById("live").textContent);
followWork(() => api(`training-datasets/${id}/status`));
