/** Takes the code out of the address that the QR code holds, so that only a name is to be typed. */

const code = document.querySelector("#code");
const name = document.querySelector("#name");
const given = decodeURIComponent(location.hash.slice(1)).slice(0, 12);

if (given) {
  code.value = given;
  history.replaceState(null, "", location.pathname);
}
(code.value ? name : code).focus();
